"""Tables and topics as the command line and the API show, import and export them."""
