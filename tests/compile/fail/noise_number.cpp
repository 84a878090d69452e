// A seed in place of a source.
// says: a noise source needs fill(sample, draw, element, span<float>) const
#include "fault.hpp"

void use() {
#ifdef FAULT
  sample<Image>(sampler(), AnyNetwork(), {2, 3, 4}, 42);
#else
  sample<Image>(sampler(), AnyNetwork(), {2, 3, 4}, PhiloxNoise{42});
#endif
}
