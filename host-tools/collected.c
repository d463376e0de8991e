#include "host-tools/collected.h"

#include <stdlib.h>

#include "host-tools/values.h"

void collected_take(struct collected *collected, const struct collected_item *item)
{
	collected->items =
		memory_or_exit(list_room(collected->items, collected->count, &collected->capacity,
					 sizeof(*collected->items)));
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
