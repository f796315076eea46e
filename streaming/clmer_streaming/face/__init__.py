"""The face as numbers: landmarks, action units, gaze, pose and their stream layout."""
