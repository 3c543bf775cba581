"""How much visitors may ask for, so that what one of them draws does not stop all others.

Connections are bounded in number, not per visitor nor in time: uvicorn waits for the headers of a
request as long as a client likes. Who opens `MOST_CONNECTIONS` and sends nothing keeps others out.
"""

MIB = 2**20

MOST_BODY_BYTES = 24 * MIB  # of one request, with the image and the mask to edit
BODY_SECONDS = 60  # in which a request has to arrive
MOST_GIVEN_PIXELS = 2**22  # of an image to edit, or its mask, as 2048 x 2048
MOST_IMAGES = 16  # of one request
MOST_DRAWN_PIXELS = 2**22  # of all images of one request
LONGEST_TEXT = 4000  # characters of labels, a prompt and the like
MOST_WAITING = 16  # requests in the queue, the one that is drawn included
MOST_OF_ONE = 4  # of these of one visitor's address
MOST_CONNECTIONS = 64  # at a time
MOST_PROGRAMS = 400  # compiled ones in memory; beyond, all are forgotten


def most_images(size: tuple[int, int]) -> int:
    """How many images of (height, width) pixels one request may ask for."""
    return max(1, min(MOST_IMAGES, MOST_DRAWN_PIXELS // (size[0] * size[1])))
