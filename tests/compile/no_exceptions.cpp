// Compiled with -fno-exceptions -fno-rtti: the core needs neither. no-exceptions CASE samples
// ("run"), or gives bad input and is ended by `fail`, which calls the handler with the message that
// names value and limit, or without a handler prints it and aborts. Exit code 0: as it should be.
#include <diffusion/diffusion.hpp>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error this file is to be compiled with -fno-exceptions -fno-rtti
#endif

namespace {

using namespace diffusion;
using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

/// The data is one point, 0.5: every sampler ends there, whatever the noise.
void exact(const Image&, double, Image& x0) { x0.setConstant(0.5F); }

bool is_half(const Image& x) {
  for (Eigen::Index i = 0; i < x.size(); ++i)
    if (std::abs(x.data()[i] - 0.5F) > 1e-5F) return false;
  return true;
}

int run() {
  const auto schedule = NoiseSchedule<>::linear();
  const SampleOptions options{.prediction_type = PredictionType::sample};
  TorchCpuNoise noise{1};
  Image x = sample<Image>(DdpmSampler{schedule, {.steps = 5}}, exact, {2, 3, 4}, noise, options);
  bool good = is_half(x);

  ClassifierFreeGuidance guided(
      [](const Image& z, double t, const Conditions<int>&, Image& out) { exact(z, t, out); },
      std::vector<int>{1, 2}, 0, {.scale = 2});
  x.setRandom();
  good = sample_in_place(DdimSampler{schedule, {.steps = 5}}, guided, x, PhiloxNoise{1}, options)
             .done() &&
         good && is_half(x);
  std::printf("%s\n", good ? "both samplers end at the data" : "the sampled state is wrong");
  return good ? 0 : 1;
}

std::string_view expected;  // what the handler must be told

[[noreturn]] void handler(const char* message) {
  const bool good = message == expected;
  std::printf("%s: %s\n", good ? "told" : "told something else", message);
  std::fflush(stdout);
  std::_Exit(good ? 0 : 1);
}

/// Each of these is ended by `fail`.
void bad_steps() {
  expected = "steps is 0; it must lie in [1, 1000]";
  DdimSampler{NoiseSchedule<>::linear(), {.steps = 0}}.plan();
}
void bad_shape() {
  expected = "the state has the shape 2x0x4; every dimension must be at least 1";
  sample<Image>(DdimSampler{NoiseSchedule<>::linear(), {.steps = 5}}, exact, {2, 0, 4},
                PhiloxNoise{1});
}
void bad_conditions() {
  expected = "guidance has 1 conditions for a batch of 2; it needs one per sample";
  ClassifierFreeGuidance guided(
      [](const Image& z, double, const Conditions<int>&, Image& out) { out = z; },
      std::vector<int>{1}, 0, {.scale = 2});
  sample<Image>(DdimSampler{NoiseSchedule<>::linear(), {.steps = 5}}, guided, {2, 3, 4},
                PhiloxNoise{1});
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "run") return run();

  if (name == "abort") {  // no handler: the program is aborted
    std::signal(SIGABRT, [](int) { std::_Exit(0); });
    bad_steps();
    return 1;
  }
  if (name == "returning handler") {  // which it must not: aborted all the same
    set_error_handler([](const char*) {});
    std::signal(SIGABRT, [](int) { std::_Exit(0); });
    bad_steps();
    return 1;
  }
  if (set_error_handler(handler) != nullptr) return 1;  // there was none before
  if (name == "steps") bad_steps();
  if (name == "shape") bad_shape();
  if (name == "conditions") bad_conditions();
  std::printf("nothing was told of \"%s\"\n", argc > 1 ? argv[1] : "");
  return 2;
}
