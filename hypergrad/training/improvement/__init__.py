"""Schedules that hold: a pure plan of trainings, and those who carry it out.

Imports what `training` may import; nothing here touches a disk.
"""
