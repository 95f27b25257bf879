"""SQLite files of the state folder: opened, migrated, written by one thread each.

Knows no table and nothing of what is kept in them.
"""
