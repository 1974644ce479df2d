"""The node's Python side: starts the application that the Rust side has unpacked.

`python3 -m mse_node` is the one entry point. The Rust extension `_node` waits for the configuration and prepares the
application's places; this package then serves the application in the same process, on the same listening socket.
"""
