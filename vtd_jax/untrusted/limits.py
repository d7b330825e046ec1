"""What a file from a stranger may ask for. Every limit is named here; docs/security.md says which flag raises it."""

# bytes: of JSON that we wrote (the largest are lists of a million videos), and of JSON beside other people's weights
JSON_BYTES = 256 * 2**20
SMALL_JSON_BYTES = 16 * 2**20
# brackets inside brackets; ours have at most eight
JSON_DEPTH = 64
# bytes: of lists, label files and tables; and of one line of them
TEXT_BYTES = 256 * 2**20
LINE_BYTES = 64 * 2**10
# bytes: of an array of ours; a million videos of 700 classes are 2.8 GB
ARRAY_BYTES = 16 * 2**30
# how many times its bytes in the archive an array may have
ARRAY_RATIO = 2000
# of a run's checkpoint: bytes of its arrays, and of its files (the largest of ours have 130 MB)
CHECKPOINT_BYTES = 2 * 2**30
# files and folders in one item of a checkpoint, and bytes of an index in it, which its writer keeps at 8 MiB
CHECKPOINT_FILES = 10_000
CHECKPOINT_INDEX_BYTES = 64 * 2**20
