#ifndef DIFFUSION_EXAMPLES_COMMAND_LINE_HPP
#define DIFFUSION_EXAMPLES_COMMAND_LINE_HPP

#include <CLI/CLI.hpp>

#include <charconv>
#include <concepts>
#include <stdexcept>
#include <string>
#include <system_error>

namespace examples {

/// The decimal number that is all of `text`; no sign but a minus, no blanks, no other base. Throws
/// std::invalid_argument with the option's name, the text and the limits, both allowed themselves.
template <std::integral Number>
Number whole_number(const std::string& option, const std::string& text, Number low, Number high) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || value < low || value > high)
    throw std::invalid_argument(option + " is " + (text.empty() ? "empty" : text) +
                                "; it must be a whole number in [" + std::to_string(low) + ", " +
                                std::to_string(high) + "]");
  return value;
}

/// Declares an option that `whole_number` reads. CLI11's own conversion takes 010 for 8 and brings
/// numbers that are too large down to the largest.
template <std::integral Number>
CLI::Option* add_whole_number(CLI::App& app, const std::string& option, Number& value, Number low,
                              Number high, const std::string& help) {
  const auto read = [&value, option, low, high](const std::string& text) {
    value = whole_number(option, text, low, high);
  };
  return app.add_option_function<std::string>(option, read, help)
      ->type_name("INT")
      ->default_str(std::to_string(value));
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_COMMAND_LINE_HPP
