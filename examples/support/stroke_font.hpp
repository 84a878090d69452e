#ifndef DIFFUSION_EXAMPLES_STROKE_FONT_HPP
#define DIFFUSION_EXAMPLES_STROKE_FONT_HPP

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

namespace examples {

struct Point {
  double x = 0;
  double y = 0;
};

namespace detail {

/// The letters as pen strokes, ASCII 32 to 126. A pair of characters is a point (x, y), each 0-9 or
/// a-c for 10-12; a space lifts the pen; a stroke that stays where it is makes a dot. y runs down:
/// 0 the top of capitals, 3 that of small letters, 9 the line, 12 the foot of letters that hang.
inline constexpr std::array<std::string_view, 95> glyphs{
    "",                                    // space
    "0006 0909",                           // !
    "0002 2022",                           // "
    "2019 5048 0363 0666",                 // #
    "615010010314556668591908 3039",       // $
    "6009 10010213222110 56474859686756",  // %
    "691311203041420608193966",            // &
    "0002",                                // '
    "20020729",                            // (
    "00222709",                            // )
    "2125 0244 4204",                      // *
    "3238 0565",                           // +
    "180b",                                // ,
    "0545",                                // -
    "0909",                                // .
    "4009",                                // /
    "104051584919080110",                  // 0
    "123039 1959",                         // 1
    "01104051530959",                      // 2
    "01104051534424 445558491908",         // 3
    "49400656",                            // 4
    "500004445558491908",                  // 5
    "514010010819495855441405",            // 6
    "005029",                              // 7
    "14030110405153441405081949585544",    // 8
    "081949585140100104154554",            // 9
    "0404 0909",                           // :
    "1414 180b",                           // ;
    "520558",                              // <
    "0454 0757",                           // =
    "025508",                              // >
    "01104051532526 2929",                 // ?
    "6859190801105061664643232646",        // @
    "093069 1656",                         // A
    "0444535140000949585544",              // B
    "6150100108195968",                    // C
    "00406267490900",                      // D
    "50000959 0444",                       // E
    "500009 0444",                         // F
    "61501001081959686535",                // G
    "0009 6069 0464",                      // H
    "0009",                                // I
    "4048391908",                          // J
    "0009 5005 2359",                      // K
    "000959",                              // L
    "0900356069",                          // M
    "09006960",                            // N
    "105061685919080110",                  // O
    "09004051544505",                      // P
    "105061685919080110 4769",             // Q
    "09004051544505 3559",                 // R
    "615010010314556668591908",            // S
    "0060 3039",                           // T
    "000819596860",                        // U
    "003960",                              // V
    "0029426980",                          // W
    "0069 6009",                           // X
    "003460 3439",                         // Y
    "00600969",                            // Z
    "20000a2a",                            // [
    "0049",                                // backslash
    "00202a0a",                            // ]
    "032043",                              // ^
    "0a6a",                                // _
    "0011",                                // `
    "5359 5443130408194958",               // a
    "0009 0413435458491908",               // b
    "5443130408194958",                    // c
    "5059 5443130408194958",               // d
    "06565443130408194958",                // e
    "30201119 0333",                       // f
    "535b4c1c0b 5443130408194958",         // g
    "0009 0413435459",                     // h
    "0309 0000",                           // i
    "232b1c0c 2020",                       // j
    "0009 4307 2549",                      // k
    "000819",                              // l
    "0309 0413334449 4453738489",          // m
    "0309 0413435459",                     // n
    "134354584919080413",                  // o
    "030c 0413435458491908",               // p
    "535c 5443130408194958",               // q
    "0309 052333",                         // r
    "544313040516465758491908",            // s
    "11182939 0333",                       // t
    "0308194958 5359",                     // u
    "032943",                              // v
    "0329446983",                          // w
    "0349 4309",                           // x
    "0329 431c0c",                         // y
    "03430949",                            // z
    "2011140516192a",                      // {
    "000b",                                // |
    "0011142516190a",                      // }
    "061525364655",                        // ~
};

inline std::string_view glyph(char letter) {
  const bool printable = letter >= ' ' && letter <= '~';
  return glyphs[static_cast<std::size_t>((printable ? letter : '?') - ' ')];
}

inline double glyph_coordinate(char code) { return code <= '9' ? code - '0' : code - 'a' + 10; }

inline double glyph_width(std::string_view strokes) {
  double width = strokes.empty() ? 2 : 0;
  std::size_t place = 0;  // within a stroke: even places are x
  for (const char code : strokes) {
    if (code == ' ') {
      place = 0;
    } else if (place++ % 2 == 0) {
      width = width < glyph_coordinate(code) ? glyph_coordinate(code) : width;
    }
  }
  return width;
}

inline constexpr double letter_gap = 2.6;

}  // namespace detail

/// How wide a line of text is, in units of a ninth of the height of its capitals.
inline double stroke_text_width(std::string_view text) {
  double width = 0;
  for (const char letter : text) {
    width += detail::glyph_width(detail::glyph(letter)) + detail::letter_gap;
  }
  return text.empty() ? 0 : width - detail::letter_gap;
}

/// The pen strokes of a line of text that begins at (0, 0), the line that letters stand on; y runs
/// down, so that capitals reach up to y = -9.
inline std::vector<std::vector<Point>> stroke_text(std::string_view text) {
  std::vector<std::vector<Point>> strokes;
  double left = 0;
  for (const char letter : text) {
    const std::string_view codes = detail::glyph(letter);
    bool pen_up = true;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      if (codes[i] == ' ') {
        pen_up = true;
        continue;
      }
      if (pen_up) strokes.emplace_back();
      pen_up = false;
      strokes.back().push_back(
          {left + detail::glyph_coordinate(codes[i]), detail::glyph_coordinate(codes[i + 1]) - 9});
      ++i;
    }
    left += detail::glyph_width(codes) + detail::letter_gap;
  }
  return strokes;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_STROKE_FONT_HPP
