"""The shell: each module talks to one outside thing and decides nothing."""
