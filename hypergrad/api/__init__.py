"""The library's own calls: a search that one holds, and wrappers that run it to its end.

Imports training and what is below, and the files of `runs`; never a driver.
"""
