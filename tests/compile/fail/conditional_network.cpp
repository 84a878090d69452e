// A network for guidance that takes no conditions.
// says: a conditional network must be callable as
#include "fault.hpp"

void use() {
#ifdef FAULT
  const auto network = [](const Image& x, double, Image& out) { out = x; };
#else
  const auto network = [](const Image& x, double, const Conditions<int>&, Image& out) { out = x; };
#endif
  ClassifierFreeGuidance guided(network, std::vector<int>{1, 2}, 0, {.scale = 2});
  sample<Image>(sampler(), guided, {2, 3, 4}, PhiloxNoise{1});
}
