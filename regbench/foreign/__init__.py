"""Displacement fields that another program made: which file belongs to which pair, and their rows.

finding      the files of a pair by the names that programs give them
evaluation   a folder of fields into an ordinary run folder
"""
