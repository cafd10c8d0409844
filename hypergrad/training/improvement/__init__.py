"""Improving a schedule that one came with: where it may move, what is trained, what is concluded.

Imports what `training` may; holds no files: whoever records the outcomes can replay them.
"""
