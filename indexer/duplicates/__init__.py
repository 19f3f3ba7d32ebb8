"""Finding copies of pictures in a library: candidates, the rule, a look at the files, groups."""
