/* find_image: which guest image a job gets that names none (design, section 5). */
#ifndef HOST_TOOLS_FIND_IMAGE_H
#define HOST_TOOLS_FIND_IMAGE_H

#include "imagebuilder/image.h"

/*
 * Loads GIVEN, or, with GIVEN NULL, the first that there is of: $JOBVM_IMAGE, `image` beside the
 * executable, jobvm/image in the user's data directory, the installed one.
 * -1 with ERROR set and nothing to free.
 */
int find_image(const char *given, struct image *image, struct error *error);

/*
 * Compares IMAGE's parts with their digests, but for those that this user's cache says were whole
 * when they were last read and have not been written since. -1 with ERROR set.
 */
int verify_image(const struct image *image, struct error *error);

/* Where the default image's parts are for `image build`: NAME beside the executable, or installed.
 */
int find_part(const char *name, char *path, size_t size);

#endif
