"""What ``streams.py`` measures, one file each, and the processes that it measures with."""
