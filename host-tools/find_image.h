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

/* Where NAME is or would be in this user's data directory. */
void find_user_data(const char *name, char *path, size_t size);

/*
 * The directory for this user's cache, made if need be; an empty PATH if there can be none.
 */
void find_cache(char *path, size_t size);

/* The file in it that keeps what was found whole (imagebuilder/verify.h); or an empty PATH. */
void find_memory(char *path, size_t size);

/* Where the default image's parts are for `image build`: NAME beside the executable, or installed.
 */
int find_part(const char *name, char *path, size_t size);

#endif
