// A network that returns an Eigen expression: it refers to what is gone when it is evaluated.
// says: an Eigen expression would refer to temporaries
#include "fault.hpp"

void use() {
#ifdef FAULT
  const auto network = [](const Image& x, double t) { return x * static_cast<float>(t); };
#else
  const auto network = [](const Image& x, double t) -> Image { return x * static_cast<float>(t); };
#endif
  sample<Image>(sampler(), network, {2, 3, 4}, PhiloxNoise{1});
}
