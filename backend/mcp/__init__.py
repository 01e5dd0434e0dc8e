"""Tools for assistants: the REST API over the Model Context Protocol.

A tool is one REST operation: its view is called in this process, so permissions, tenants, validation, refusals and
audit are those of REST (W-13). Nothing here makes decisions or changes of its own.
"""
