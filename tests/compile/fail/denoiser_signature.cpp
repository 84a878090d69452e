// A network that forgets the time.
// says: a denoiser must be callable as (const Tensor& x, double t, Tensor& out)
#include "fault.hpp"

void use() {
#ifdef FAULT
  const auto network = [](const Image& x, Image& out) { out = x; };
#else
  const auto network = [](const Image& x, double, Image& out) { out = x; };
#endif
  Image x = start();
  sample_in_place(sampler(), network, x, PhiloxNoise{1});
}
