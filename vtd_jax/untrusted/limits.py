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
# frames that a record may claim: 19 days at 60 a second
RECORD_FRAMES = 10**8
# characters: of the name of a video in a list; no file system of ours takes longer paths
NAME_CHARACTERS = 4096
# of a file of weights: tensors in it (the largest mixtures of experts have 90 000), characters of one tensor's name and
# of all names, modules of a TorchScript archive with all their attributes, and files that a model is cut into
TENSORS = 100_000
TENSOR_NAME = 1000
TENSOR_NAMES = 16 * 2**20
SHARDS = 500
MODULE_ATTRIBUTES = 200_000
# bytes: of the pickle in a PyTorch archive, of a zip file's table of contents, of a safetensors header
PICKLE_BYTES = 16 * 2**20
ZIP_TABLE_BYTES = 16 * 2**20
SAFETENSORS_HEADER_BYTES = 64 * 2**20
# elements that all tensors of an archive may have for each byte of it, as tensors may share their storage; and how many
# times its own bytes may be read for them
SHARED_ELEMENTS = 16
READ_AGAIN = 64
# characters of a message, a line or a cell on a terminal, which is two of the longest paths that Linux has; and of a
# word in it between blanks and slashes, where a name of a file has at most 255
SHOWN_CHARACTERS = 9000
SHOWN_WORD = 400
