"""The command line, one file for each verb. A verb's options become a request (campaign/request.py), which is checked
before any work starts."""
