#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_RANDOM_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_RANDOM_HPP

#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/noise/torch_cuda_noise.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "data.hpp"

/// torch_randn.json and torch_cuda_randn.json: the outputs of torch's generators.
namespace golden {

/// One call of randn or rand.
template <class Scalar>
Numbers draw(diffusion::TorchCpuNoise& noise, const std::string& function, std::size_t n) {
  std::vector<Scalar> values(n);
  if (function == "randn")
    noise.fill(std::span<Scalar>(values));
  else if (function == "rand")
    noise.fill_uniform(std::span<Scalar>(values));
  else
    throw std::runtime_error("the generator's function \"" + function + "\" is not known");
  return Numbers(values.begin(), values.end());
}

inline Numbers draw(diffusion::TorchCpuNoise& noise, const Json& one, const std::string& function,
                    std::size_t n) {
  return one.at("dtype") == "float64" ? draw<double>(noise, function, n)
                                      : draw<float>(noise, function, n);
}

inline double tolerance_of_dtype(const Json& one) {
  return one.at("dtype") == "float64" ? 1e-9 : 1e-5;
}

/// One call of randn on a GPU.
inline Numbers draw(diffusion::TorchCudaNoise& noise, const Json& one, std::size_t n) {
  const auto fill = [&](auto zero) {
    std::vector<decltype(zero)> values(n);
    noise.fill(std::span(values));
    return Numbers(values.begin(), values.end());
  };
  const std::string type = one.at("dtype");
  if (type == "float64") return fill(0.0);
  if (type == "float32") return fill(0.0F);
  throw Unhandled("randn on a GPU in " + type + " is not checked");
}

inline diffusion::TorchCpuNoise seeded(const Json& one) {
  return diffusion::TorchCpuNoise(one.at("seed").get<std::uint64_t>());
}

/// Compares `got` with all numbers of a case, or with as many as it lists of the first and last.
inline void compare_listed(Case& check, const Json& one, const Numbers& got) {
  if (one.contains("values")) check.compare("values", numbers(one.at("values")), got);
  for (const char* key : {"first", "first_20"})
    if (one.contains(key)) {
      const Numbers expected = numbers(one.at(key));
      const auto count = static_cast<std::ptrdiff_t>(std::min(expected.size(), got.size()));
      check.compare(key, expected, Numbers(got.begin(), got.begin() + count));
    }
  for (const char* key : {"last", "last_20"})
    if (one.contains(key)) {
      const Numbers expected = numbers(one.at(key));
      const auto count = static_cast<std::ptrdiff_t>(std::min(expected.size(), got.size()));
      check.compare(key, expected, Numbers(got.end() - count, got.end()));
    }
}

inline std::string name_of_draw(const char* list, std::size_t index, const Json& one) {
  return text(list, "/", index, "/seed-", one.at("seed").dump(), "-",
              one.at("dtype").get<std::string>());
}

inline void run_cpu_draws(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(name_of_draw("torch_randn/cpu", index++, one), tolerance_of_dtype(one),
               [&](Case& check) {
                 auto noise = seeded(one);
                 compare_listed(check, one, draw(noise, one, one.at("function"), one.at("n")));
               });
}

inline void run_cpu_sequences(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(
        name_of_draw("torch_randn/cpu_sequences", index++, one), tolerance_of_dtype(one),
        [&](Case& check) {
          auto noise = seeded(one);
          const std::string function = one.at("function");
          const Json &calls = one.at("calls"), &values = one.at("values");
          check.require(calls.size() == values.size(), "calls and values differ in length");
          for (std::size_t i = 0; i < std::min(calls.size(), values.size()); ++i) {
            const bool mixed = function == "mixed";
            check.compare(
                text("call ", i), numbers(values[i]),
                draw(noise, one, mixed ? calls[i].at(0).get<std::string>() : function,
                     mixed ? calls[i].at(1).get<std::size_t>() : calls[i].get<std::size_t>()));
          }
        });
}

inline void run_cpu_tensors(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(name_of_draw("torch_randn/cpu_generator_tensor", index++, one),
               tolerance_of_dtype(one), [&](Case& check) {
                 auto noise = seeded(one);
                 std::size_t n = 1;
                 for (const Json& extent : one.at("shape")) n *= extent.get<std::size_t>();
                 check.compare("values", numbers(one.at("values")), draw(noise, one, "randn", n));
               });
}

/// torch.randint: each number is a raw word modulo the range. Wide ranges take two words.
inline void run_integers(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(text("torch_randn/cpu_randint/", index++), 0, [&](Case& check) {
      const auto low = one.at("low").get<std::int64_t>(), high = one.at("high").get<std::int64_t>();
      const std::int64_t range = high - low;
      if (range <= 0 || range >= std::int64_t{1} << 32)
        throw Unhandled(text("randint in [", low, ", ", high, ") is not checked"));
      std::mt19937 engine(static_cast<std::uint32_t>(one.at("seed").get<std::uint64_t>()));
      Numbers got(one.at("n").get<std::size_t>());
      for (double& number : got)
        number = static_cast<double>(low + static_cast<std::int64_t>(engine()) % range);
      check.compare("values", numbers(one.at("values")), got);
    });
}

inline void run_raw_words(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(text("torch_randn/mt19937_raw_u32/", index++), 0, [&](Case& check) {
      std::mt19937 engine(one.at("seed").get<std::uint32_t>());
      Numbers got;
      for (std::size_t i = 0; i < one.at("values").size(); ++i)
        got.push_back(static_cast<double>(engine()));
      check.compare("values", numbers(one.at("values")), got);
    });
}

inline void run_philox_blocks(Report& report, const Json& vectors) {
  std::size_t index = 0;
  for (const Json& one : vectors)
    report.run(text("torch_randn/philox4x32_10_block/", index++), 0, [&](Case& check) {
      const auto block =
          diffusion::philox4x32_10(one.at("counter").get<std::array<std::uint32_t, 4>>(),
                                   one.at("key").get<std::array<std::uint32_t, 2>>());
      check.compare("output", numbers(one.at("output")), Numbers(block.begin(), block.end()));
    });
}

/// What an independent computation says a GPU returns.
inline void run_philox_randn(Report& report, const Json& vectors) {
  std::size_t index = 0;
  for (const Json& one : vectors)
    report.run(name_of_draw("torch_randn/philox_cuda_randn", index++, one), 1e-5, [&](Case& check) {
      diffusion::TorchCudaNoise noise(one.at("seed").get<std::uint64_t>(),
                                      {.offset = one.at("offset").get<std::uint64_t>()});
      check.compare("values", numbers(one.at("values")), draw(noise, one, one.at("n")));
    });
}

/// What a GPU returned: n normals, some of which are listed, their sum, and seven more.
inline void run_cuda_draws(Report& report, const Json& list) {
  std::size_t index = 0;
  for (const Json& one : list)
    report.run(name_of_draw("torch_cuda_randn/cuda_randn", index++, one), 1e-5, [&](Case& check) {
      diffusion::TorchCudaNoise noise(one.at("seed").get<std::uint64_t>());
      const Numbers got = draw(noise, one, one.at("n"));
      compare_listed(check, one, got);
      if (one.contains("sum")) {
        const auto count = static_cast<double>(got.size());
        check.compare_absolutely("sum / n", {number(one.at("sum")) / count},
                                 {std::accumulate(got.begin(), got.end(), 0.0) / count}, 1e-7);
      }
      check.compare("then_7", numbers(one.at("then_7")), draw(noise, one, 7));
    });
}

inline void run_torch_randn(Report& report, const Json& file) {
  run_cpu_draws(report, file.at("cpu"));
  run_cpu_sequences(report, file.at("cpu_sequences"));
  run_cpu_tensors(report, file.at("cpu_generator_tensor"));
  run_integers(report, file.at("cpu_randint"));
  run_raw_words(report, file.at("mt19937_raw_u32"));
  run_philox_blocks(report, file.at("philox4x32_10_block").at("vectors"));
  run_philox_randn(report, file.at("philox_cuda_randn").at("vectors"));
}

/// The file that a machine with a GPU wrote, both halves: n normals, then seven more.
inline void run_torch_cuda_randn(Report& report, const Json& file) {
  run_cuda_draws(report, file.at("cuda_randn"));
  std::size_t index = 0;
  for (const Json& one : file.at("cpu_randn"))
    report.run(name_of_draw("torch_cuda_randn/cpu_randn", index++, one), tolerance_of_dtype(one),
               [&](Case& check) {
                 auto noise = seeded(one);
                 const Numbers got = draw(noise, one, "randn", one.at("n"));
                 compare_listed(check, one, got);
                 check.compare("then_7", numbers(one.at("then_7")), draw(noise, one, "randn", 7));
               });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_RANDOM_HPP
