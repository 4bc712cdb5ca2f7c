"""The lenses of a pack over finished texts: JSON lines in, a row a token and a row a text out. Nothing is generated.

texts       what is in the file of texts, line by line, in windows of like size
scanner     a window's texts through the host and the lenses, several in one forward: rows out
aggregate   what a text's positions say together
unfinished  what there is of a scan so far, so that one which was interrupted goes on where it was
parquet     rows as Parquet
"""
