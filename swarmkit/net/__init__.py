"""The network: TLS gateway, authorisation, client channels, known managers, forwarding to the leader."""
