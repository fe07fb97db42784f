"""From the bytes of a file to records, in three layers.

::

    compression   a stream of bytes, unpacked by what it holds
    encodings     lines of text, each with its number; what cannot be decoded is said, never replaced
    plain, separated, json_records, parquet    records of one format
    formats       which of them reads what

A record that holds no usable text is still a record, with the reason in `problem`: the caller decides whether it ends
the run. Nothing is guessed in silence: a file gives as many records as it has rows, or an error that names the line.
"""
