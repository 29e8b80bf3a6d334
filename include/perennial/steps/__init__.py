"""The steps: load, decide, save. Here core and shell meet."""
