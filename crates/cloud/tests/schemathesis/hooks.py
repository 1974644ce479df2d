"""What schemathesis cannot know of this API."""

import schemathesis

# Pieces of uploads are bytes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
