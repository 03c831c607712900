"""What people set: settings files read into frozen sections, and what is wrong with them in one message."""
