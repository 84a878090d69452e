#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_FUNCTIONS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_FUNCTIONS_HPP

#include <diffusion/denoiser/timestep_embedding.hpp>
#include <diffusion/schedule/flow_shift.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data.hpp"
#include "nn/time_embedding.hpp"

/// misc.json: functions beside the schedulers.
namespace golden {

inline void check_shift(Case& check, const Json& one) {
  require_keys(one, "calculate_shift",
               {"function", "image_seq_len", "base_seq_len", "max_seq_len", "base_shift",
                "max_shift", "out"});
  const diffusion::DynamicShiftOptions options{.base_seq_len = number(one.at("base_seq_len")),
                                               .max_seq_len = number(one.at("max_seq_len")),
                                               .base_shift = number(one.at("base_shift")),
                                               .max_shift = number(one.at("max_shift"))};
  check.compare("out", number(one.at("out")),
                diffusion::dynamic_shift_mu(number(one.at("image_seq_len")), options));
}

/// The library's function, and the example network's own, whose phases are in float32 as those of
/// the networks that it loads: 999 rounded to 24 bits is off by 3e-5.
inline void check_embedding(Case& check, const Json& one) {
  require_keys(one, "timestep_embedding",
               {"function", "timesteps", "embedding_dim", "flip_sin_to_cos", "downscale_freq_shift",
                "max_period", "scale", "out"});
  const diffusion::TimestepEmbeddingOptions options{
      .cosine_first = one.at("flip_sin_to_cos").get<bool>(),
      .frequency_shift = number(one.at("downscale_freq_shift")),
      .max_period = number(one.at("max_period")),
      .scale = number(one.value("scale", Json(1)))};
  const Numbers times = numbers(one.at("timesteps")), expected = numbers(one.at("out"));
  const auto width = one.at("embedding_dim").get<std::size_t>();
  Numbers got(times.size() * width);
  for (std::size_t i = 0; i < times.size(); ++i)
    diffusion::timestep_embedding(times[i], std::span(got).subspan(i * width, width), options);
  check.compare("out", expected, got);

  if (options.max_period != 10000 || options.scale != 1) return;  // the only one that it has
  nn::Unet2dConfig config;
  config.block_out_channels = {static_cast<std::int64_t>(width)};
  config.flip_sin_to_cos = options.cosine_first;
  config.freq_shift = options.frequency_shift;
  std::vector<std::byte> empty(10);  // a file of no tensors: its header's length, and {}
  empty[0] = std::byte{2}, empty[8] = std::byte{'{'}, empty[9] = std::byte{'}'};
  const auto file = nn::SafeTensors::parse(empty);
  nn::Parameters<double> none(file);
  const nn::TimeProjection<double> projection(none, "time_proj", config);
  for (std::size_t i = 0; i < times.size(); ++i) projection(times[i], got.data() + i * width);
  check.require(got.size() == expected.size(), "the embedding has another size");
  for (std::size_t i = 0; i < std::min(got.size(), expected.size()); ++i)
    check.require(difference(expected[i], got[i]) <= 1e-4,
                  text("the example network's embedding[", i, "] is ", got[i]));
}

inline void run_function(Report& report, const Json& one, std::size_t index) {
  const std::string name = one.at("function");
  report.run(text("misc/", index, "/", name), 1e-9, [&](Case& check) {
    if (name == "calculate_shift")
      check_shift(check, one);
    else if (name == "timestep_embedding")
      check_embedding(check, one);
    else
      throw Unhandled("the function \"" + name + "\" is not known");
  });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_FUNCTIONS_HPP
