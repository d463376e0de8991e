/* hostile_image KIND OUT.img: writes a job disk that lies. hostile_image --list: the kinds. */
#include <err.h>
#include <stdio.h>
#include <string.h>

#include "tests/hostile/kinds.h"

static void print_name(void *context, const struct kind *kind)
{
	(void)context;
	puts(kind->name);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		kinds_visit(print_name, NULL);
		return 0;
	}
	if (argc != 3)
		errx(2, "usage: hostile_image KIND OUT.img, or hostile_image --list");

	const struct kind *kind = kind_find(argv[1]);

	if (!kind)
		errx(2, "no such kind: %s", argv[1]);
	kind_write(kind, argv[2]);
	return 0;
}
