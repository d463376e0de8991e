#include "host-tools/collected.h"

#include <stdlib.h>

#include "host-tools/values.h"

void collected_take(struct collected *collected, const struct collected_item *item)
{
	if (collected->count == collected->capacity) {
		collected->capacity = collected->capacity ? 2 * collected->capacity : 64;
		collected->items = memory_or_exit(reallocarray(
			collected->items, collected->capacity, sizeof(*collected->items)));
	}
	collected->items[collected->count++] = *item;
}

void collected_free(struct collected *collected)
{
	for (size_t i = 0; i < collected->count; i++) {
		free(collected->items[i].path);
		free(collected->items[i].target);
	}
	free(collected->items);
	*collected = (struct collected){.count = 0};
}
