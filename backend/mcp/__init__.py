"""Tools for assistants over the Model Context Protocol: the REST API through another door.

A tool is one REST operation: its view is called in this process, so that permissions, tenants, validation, refusals
and audit are those of REST (W-13). Nothing here decides or changes anything by itself.
"""
