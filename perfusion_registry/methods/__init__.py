"""Methods: how a concept is learned and drawn, a folder each; `table` finds them by name, without torch."""
