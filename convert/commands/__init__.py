"""The commands of appliance-convert: arguments, order of work, report.

Know no format.
"""
