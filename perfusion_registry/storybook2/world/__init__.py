"""The drawn world: drawings as files, individuals in their colours, places, and pages that know all about
themselves."""
