"""The command ``fastrnn bench``: this machine, fastrnn against the other libraries that are installed."""
