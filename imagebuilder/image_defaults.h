/*
 * image_defaults: what an image says of the processes in it, as an OCI config and as image.json
 * have it.
 */
#ifndef IMAGEBUILDER_IMAGE_DEFAULTS_H
#define IMAGEBUILDER_IMAGE_DEFAULTS_H

#include <jansson.h>

#include "imagebuilder/image.h"

enum defaults_names { DEFAULTS_OF_OCI, DEFAULTS_OF_IMAGE };

/*
 * Reads OBJECT, which is called WHERE in errors, into DEFAULTS; null is as good as absent, other
 * keys are left alone. -1 with ERROR set; what was read is to be freed all the same.
 */
int image_defaults_parse(json_t *object, enum defaults_names names, const char *where,
			 struct image_defaults *defaults, struct error *error);
/* An object for image.json, without the keys that are not set; NULL when there is no memory. */
json_t *image_defaults_pack(const struct image_defaults *defaults);
void image_defaults_free(struct image_defaults *defaults); /* zeroed or freed ones are allowed */

#endif
