// A const denoiser with memory that a new run could not clear.
// says: the denoiser is const, but its begin_run() is not
#include "fault.hpp"

struct Network {
  int calls = 0;
#ifdef FAULT
  void begin_run() { calls = 0; }
#else
  void begin_run() const {}
#endif
  void operator()(const Image& x, double, Image& out) const { out = x; }
};

void use() {
  const Network network;
  sample<Image>(sampler(), network, {2, 3, 4}, PhiloxNoise{1});
}
