/*
 * verify: whether a guest image's parts are still what was built.
 */
#ifndef IMAGEBUILDER_VERIFY_H
#define IMAGEBUILDER_VERIFY_H

#include "imagebuilder/image.h"

/*
 * Compares the digests of IMAGE's parts with image.json's; -1 with ERROR set, which names the
 * part, if one differs.
 *
 * MEMORY is a file that keeps what was found whole, so that it need not be read again while its
 * inode, size and times stay; NULL: everything is read. It is made when it is absent, and neither
 * believed nor written when another user owns it or may write it. Without it all works too, only
 * slower: it is never a reason to fail.
 */
int image_verify(const struct image *image, const char *memory, struct error *error);

#endif
