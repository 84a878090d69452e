#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_RANDOM_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_RANDOM_HPP

#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
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

inline void skip_all(Report& report, const char* name, const Json& list, const char* reason) {
  for (std::size_t i = 0; i < list.size(); ++i) report.skip(text(name, "/", i), reason);
}

inline void run_torch_randn(Report& report, const Json& file) {
  run_cpu_draws(report, file.at("cpu"));
  run_cpu_sequences(report, file.at("cpu_sequences"));
  run_cpu_tensors(report, file.at("cpu_generator_tensor"));
  skip_all(report, "torch_randn/cpu_randint", file.at("cpu_randint"), "randint");
  run_raw_words(report, file.at("mt19937_raw_u32"));
  run_philox_blocks(report, file.at("philox4x32_10_block").at("vectors"));
  skip_all(report, "torch_randn/philox_cuda_randn", file.at("philox_cuda_randn").at("vectors"),
           "torch's CUDA generator");
}

/// The CPU half of the file that a GPU wrote: n normals, then seven more.
inline void run_torch_cuda_randn(Report& report, const Json& file) {
  skip_all(report, "torch_cuda_randn/cuda_randn", file.at("cuda_randn"), "torch's CUDA generator");
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
