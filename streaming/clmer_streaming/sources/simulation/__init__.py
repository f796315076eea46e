"""The parts of the simulator: people, trials, brain and muscle signals, faces, and the session they make."""
