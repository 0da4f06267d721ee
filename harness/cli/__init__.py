"""The command line: a file for each verb. What a verb asks for is put into a request (campaign/request.py) and checked
before any work starts."""
