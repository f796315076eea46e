"""The service and the command line: sessions, hub, HTTP and WebSocket, dashboard."""
