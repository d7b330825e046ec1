"""Limits on what an untrusted file may claim; docs/security.md names the flags that raise them."""

# bytes: of JSON that we wrote (the largest are lists of a million videos), and of JSON beside other
# people's weights
JSON_BYTES = 256 * 2**20
SMALL_JSON_BYTES = 16 * 2**20
# brackets inside brackets; ours have at most eight
JSON_DEPTH = 64
# bytes: of lists, label files and tables; and of one line of them
TEXT_BYTES = 256 * 2**20
LINE_BYTES = 64 * 2**10
# bytes: of an array of ours; a million videos of 700 classes are 2.8 GB
ARRAY_BYTES = 16 * 2**30
# how many times the bytes of their archive arrays may have in total, beyond a free allowance;
# scores are noise, which compresses to nine tenths
ARRAY_RATIO, ARRAY_FREE_BYTES = 100, 64 * 2**20
# characters of one label, class name or word; CLIP reads 77 tokens at most
TEXT_CHARACTERS = 4096
# of the table of known copies of data: rows, and bytes
KNOWN_COPIES = 10_000
KNOWN_COPIES_BYTES = 4 * 2**20
# frames that a record may claim: 19 days at 60 a second
RECORD_FRAMES = 10**8
# characters: of the name of a video in a list; no file system of ours takes longer paths
NAME_CHARACTERS = 4096
# of a file of weights: tensors (the largest mixtures of experts have 90 000), characters of a name
# and of all names, shards of a model, and attributes of all modules of a TorchScript archive
TENSORS = 100_000
TENSOR_NAME = 1000
TENSOR_NAMES = 16 * 2**20
SHARDS = 500
MODULE_ATTRIBUTES = 200_000
# of a tokenizer that comes with weights: bytes (Gemma's file has 34 MB), tokens (256 000), tokens
# that a text may spell out (250), and all characters of these, each of which takes 80 bytes
TOKENIZER_BYTES = 64 * 2**20
TOKENS = 2**20
TOKENS_ADDED = 10_000
TOKENS_ADDED_CHARACTERS = 2**20
# bytes: of the pickle in a PyTorch archive, of a zip file's table of contents, of a safetensors
# header
PICKLE_BYTES = 16 * 2**20
ZIP_TABLE_BYTES = 16 * 2**20
SAFETENSORS_HEADER_BYTES = 64 * 2**20
# of an archive whose tensors share storage: elements for each byte of it, and reads of each byte
SHARED_ELEMENTS = 16
READ_AGAIN = 64
# characters of a message on a terminal (two of Linux's longest paths), and of a word in it between
# blanks and slashes (names of files have at most 255)
SHOWN_CHARACTERS = 9000
SHOWN_WORD = 400
# pixels: of a frame, two of 8K; its short side counts as scaled up to so many pixels, as models see
# it
FRAME_PIXELS = 2**26
FRAME_SHORT_SIDE = 512
# pixels: of all frames of a video, 1 000 of 1920 × 1080 whatever the file's size, and so many more
# for each byte; each takes 0.1 to 0.6 ns to decode and 0.6 to 3.5 with its conversion to a JPEG,
# the largest frames most
VIDEO_PIXELS = 2**31
# a slide that stays has about 30 000 a byte in H.264 at 1920 × 1080, and 140 000 at 3840 × 2160
PIXELS_A_BYTE = 250_000
# of GIF and other pictures in a row: a white GIF of 1920 × 1080 has 81 000, one where a pointer
# moves 15 000
PICTURE_PIXELS_A_BYTE = 100_000
# pixels of 4K; a later frame n times as large counts n² times its pixels: few bytes make huge GIFs,
# 8K has 2 KB a frame
LARGE_FRAME_PIXELS = 2**23
# times the bytes of a file that its packets may have: those of Matroska may be compressed, none
# should be read twice
PACKET_RATIO = 16
PACKET_BYTES = 2**20
# frames of a video that a run's settings or an exported model may ask for
MOST_FRAMES_OF_A_VIDEO = 4096
# frames as large as FRAME_PIXELS allows that a clip of training or evaluation holds at once
CLIP_FRAMES = 16
# scans of a stored JPEG; ours have one
JPEG_SCANS = 10
# scans of a JPEG that is a video's frame, each of which counts all its pixels; progressive ones
# have about 10
VIDEO_JPEG_SCANS = 100
# moments of a timeline, and so many more for each frame of the video
MOMENTS = 10_000
MOMENTS_A_FRAME = 100
# frames that a container may state, an hour's at 30 a second is 108 000; more is taken as if it
# stated none
STATED_FRAMES = 2**40
# bytes of an MP4 for each sample that its tables claim, and samples that every file may claim
SAMPLE_BYTES = 4
SAMPLES = 1000
# entries of an edit list times the samples of the file
EDITED_SAMPLES = 2**20
# boxes of an MP4; a day of fragments of a second has a million
BOXES = 2 * 2**20
# bytes of a compressed movie header, unpacked
MOVIE_HEADER_BYTES = 64 * 2**20
# of a run's checkpoint: bytes of its arrays, and of its files (the largest of ours have 130 MB)
CHECKPOINT_BYTES = 2 * 2**30
# files and folders in one item of a checkpoint, and bytes of an index in it, which its writer keeps
# at 8 MiB
CHECKPOINT_FILES = 10_000
CHECKPOINT_INDEX_BYTES = 64 * 2**20
# of a table's plan: rows (all ablations of four data sets are 120), columns, data sets, each of
# which has a picture, runs; characters of a text in a row; bytes of a name of a run or data set,
# which becomes one of a file; lines about what is missing or differs; notes
PLAN_ROWS = 300
PLAN_COLUMNS = 30
PLAN_DATASETS = 20
PLAN_RUNS = 3000
PLAN_TEXT = 200
PLAN_NAME_BYTES = 200
PLAN_LINES = 10_000
PLAN_NOTES = 100
# of a file of scores: splits, and videos of all of them, which take some 7 s to compare
SCORE_SPLITS = 100
SCORE_VIDEOS = 2**20
# bytes of all files of a model that is downloaded by its name (the largest CLIPs have 20 GB), and
# files in the listing of a repository
WEIGHTS_BYTES = 64 * 2**30
WEIGHTS_LISTED = 100_000
# bytes of a video at an address whose server does not say how many it has, and videos of a folder
# or glob at an address
REMOTE_BYTES = 16 * 2**30
REMOTE_VIDEOS = 100_000
# of a data set of a hub: bytes of its files (all of Kinetics-700 are about a terabyte), rows (as of
# a list of ours), bytes of a video in a table (a record of ours holds as many), classes and
# splits
DATA_SET_BYTES = 2 * 2**40
DATA_SET_ROWS = 2**20
DATA_SET_VIDEO_BYTES = 2**30
DATA_SET_CLASSES = 100_000
DATA_SET_SPLITS = 100
# of a Parquet file: bytes of its footer, groups of rows, columns with all that is in them, structs
# in structs; and how many times the bytes of its packed columns they may have, beyond a free
# allowance. A page of any column, which is in memory at once, has at most 2 GiB by its format
PARQUET_FOOTER_BYTES = 16 * 2**20
PARQUET_GROUPS = 100_000
PARQUET_COLUMNS = 1000
PARQUET_DEPTH = 16
PARQUET_RATIO, PARQUET_FREE_BYTES = 100, 64 * 2**20
# bytes of memory of the process that reads them
PARQUET_MEMORY_BYTES = 8 * 2**30
# of `vtd app`: labels and words of a request, its bytes, frames of a clip
APP_LABELS = 2000
APP_WORDS = 20_000
APP_JSON_BYTES = 2 * 2**20
APP_FRAMES = 64
# of uploads: bytes of one, how many, and bytes of all; the least recently used go
APP_UPLOAD_BYTES = 2**30
APP_UPLOADS = 100
APP_UPLOADS_BYTES = 8 * 2**30
# uploads on their way at once, and bytes of all of them
APP_UPLOADING = 24
APP_UPLOADING_BYTES = 4 * 2**30
# videos of its folder
APP_LISTED = 20_000
# bytes of encoded videos in memory, the least recently used go; frames of a timeline
APP_KEPT_BYTES = 2**29
APP_MOMENTS = 50_000
# of a timeline: confidences of frames in windows for labels, each of which takes nanoseconds; and
# segments of an answer
APP_CONFIDENCES = 2**29
APP_SEGMENTS = 20_000
# videos that wait to be encoded; seconds that decoding a clip, or a part of a timeline, may take
APP_JOBS = 100
APP_DECODE_SECONDS = 120
# seconds after which a page that does not listen to its job has left it; after which an upload
# that nobody uses goes
APP_SILENT_SECONDS = 10
APP_UPLOAD_SECONDS = 3600
# connections at once, and of one address where addresses tell clients apart; seconds in which the
# head of a request comes, or the next part of its body, and bytes a second of a whole body
APP_CONNECTIONS = 256
APP_CONNECTIONS_EACH = 48
APP_PATIENCE_SECONDS = 20
APP_SLOWEST_BYTES = 16 * 2**10
# seconds between requests of a connection; seconds in which a client takes nothing of an answer
APP_IDLE_SECONDS = 60
APP_STALLED_SECONDS = 120
