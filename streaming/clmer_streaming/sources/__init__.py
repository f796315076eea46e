"""Where items come from: live streams, recordings, simulated people. The only clock readers."""
