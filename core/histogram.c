#include "core/histogram.h"

uint64_t histogram_bound(unsigned index)
{
	const unsigned per_power = 1 << HISTOGRAM_SUB_BITS;
	uint64_t units = index + 1;

	if (index >= per_power)
		units = (uint64_t)(index % per_power + per_power + 1) << (index / per_power - 1);
	return units << HISTOGRAM_UNIT_BITS;
}

void histogram_read(const struct histogram *histogram, struct histogram_sum *sum)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = counter_read(&histogram->buckets[i]);

		sum->buckets[i] += count;
		sum->count += count;
	}
	sum->sum += counter_read(&histogram->sum);
}

uint64_t histogram_quantile(const struct histogram_sum *sum, unsigned permille)
{
	uint64_t left = sum->count / 1000 * permille + (sum->count % 1000 * permille + 999) / 1000;

	if (sum->count == 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (left <= sum->buckets[i])
			return histogram_bound(i);
		left -= sum->buckets[i];
	}
	return histogram_bound(HISTOGRAM_BUCKETS - 1);
}

uint64_t histogram_below(const struct histogram_sum *sum, uint64_t ns)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && histogram_bound(i) <= ns; i++)
		count += sum->buckets[i];
	return count;
}
