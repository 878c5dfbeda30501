"""One module per command: settings in, result out; no flags, no printing."""
