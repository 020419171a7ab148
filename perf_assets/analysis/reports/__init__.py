"""One page that answers what is in the store: sections of SQL, figures, and the files each rests on."""
