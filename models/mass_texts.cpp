#include "models/mass_texts.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace weft {
namespace {

using Words = std::vector<std::string>;

bool isNamePart(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

/// Names, numbers and signs of a checked text, without its comments.
Words wordsOf(std::string_view text) {
  Words words;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    if (std::isspace(static_cast<unsigned char>(text[at]))) {
      at = end;
      continue;
    }
    if (text.substr(at, 2) == "//") {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    if (isNamePart(text[at]) || text[at] == '.') {
      // A number may have a point and a sign in it: 1.5e-3. Two points stand between bounds.
      const bool number = !std::isalpha(static_cast<unsigned char>(text[at])) && text[at] != '_';
      auto goesOn = [&](size_t place) {
        if (isNamePart(text[place])) return true;
        if (!number) return false;
        if (text[place] == '.') return text.substr(place, 2) != ".." && text[place - 1] != '.';
        return (text[place] == '-' || text[place] == '+') && (text[place - 1] == 'e' || text[place - 1] == 'E');
      };
      if (text.substr(at, 2) == "..") ++end;
      else
        while (end < text.size() && goesOn(end)) ++end;
    } else if (end < text.size() && text[end] == '=') {
      ++end;  // ==, >=, ...
    }
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

std::string joined(const Words &words, const char *between = " ") {
  std::string text;
  for (const std::string &word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

struct Statement {
  std::string keyword;
  Words words;  ///< with the keyword
  Words behind() const { return {words.begin() + 1, words.end()}; }
};

struct Text {
  Words head;  ///< up to the brace
  std::vector<Statement> statements;
};

bool beginsStatement(const Words &words, size_t at) {
  static const std::set<std::string> keywords = {"let",  "where",   "score",     "weight", "gate",
                                                 "sink", "dropout", "normalize", "select"};
  const bool definition =
      words[at] == "def" && at + 2 < words.size() && words[at + 2] == "(" && isNamePart(words[at + 1][0]);
  return keywords.count(words[at]) > 0 || definition;
}

Text parted(const std::string &source) {
  const Words words = wordsOf(source);
  const auto brace = std::find(words.begin(), words.end(), "{");
  Text text{{words.begin(), brace}, {}};
  int depth = 0;
  for (size_t at = static_cast<size_t>(brace - words.begin()) + 1; at + 1 < words.size(); ++at) {
    const std::string &word = words[at];
    if (depth == 0 && beginsStatement(words, at)) text.statements.push_back({word, {}});
    depth += word == "{" || word == "(" || word == "[";
    depth -= word == "}" || word == ")" || word == "]";
    text.statements.back().words.push_back(word);
  }
  return text;
}

/// `words` with what `let`s name in their names' places.
Words unfolded(const Words &words, const std::map<std::string, Words> &lets) {
  Words result;
  for (const std::string &word : words) {
    const auto found = lets.find(word);
    if (found == lets.end()) {
      result.push_back(word);
      continue;
    }
    result.push_back("(");
    result.insert(result.end(), found->second.begin(), found->second.end());
    result.push_back(")");
  }
  return result;
}

std::string written(const Text &text, const Words &more) {
  std::string all = joined(text.head) + " {\n  where i >= j\n";
  for (const std::string &line : more) all += "  " + line + "\n";
  return all + "}\n";
}

[[noreturn]] void refuse(const Variant &variant, const std::string &expected, const std::string &got) {
  throw std::invalid_argument("--mass: expected " + expected + ", got '" + variant.name() + "', " + got);
}

}  // namespace

MassTexts massTexts(const Variant &variant) {
  if (!variant.hasLogSumExp())
    refuse(variant, "a variant whose rows are a softmax",
           "which has another normaliser: its pairs have no mass of one whole");
  if (variant.keyList().input >= 0)
    refuse(variant, "a variant that looks at all keys", "whose keys are named by lists");
  if (variant.keySets().size() > 1)
    refuse(variant, "a variant of the keys of v", "which has more keys in the same softmax");
  const Text text = parted(variant.source());
  std::map<std::string, Words> lets;
  Words common, masks, scores, weights, selects, definitions;
  Words score, choosing;
  auto add = [](Words &list, const Words &words) { list.insert(list.end(), words.begin(), words.end()); };
  for (const Statement &statement : text.statements) {
    const std::string line = joined(statement.words);
    if (statement.keyword == "let") {
      lets[statement.words[1]] = unfolded({statement.words.begin() + 3, statement.words.end()}, lets);
      common.push_back(line);
    } else if (statement.keyword == "def") {
      common.push_back(line);
      definitions.push_back(joined(statement.words, ""));
    } else if (statement.keyword == "where") {
      masks.push_back(line);
      add(choosing, unfolded(statement.behind(), lets));
    } else if (statement.keyword == "score") {
      scores.push_back(line);
      score = unfolded(statement.behind(), lets);
    } else if (statement.keyword == "weight") {
      weights.push_back(joined(statement.behind()));
      if (!variant.selects()) add(choosing, unfolded(statement.behind(), lets));
    } else if (statement.keyword == "select") {
      selects.push_back(line);
      add(choosing, {std::find(statement.words.begin(), statement.words.end(), "{"), statement.words.end()});
    }
  }
  MassTexts made;
  made.weighted = variant.selects() && !weights.empty();
  Words exact = common, kept = common, counted = common;
  add(exact, scores);
  Words positive;
  for (const std::string &weight : weights) positive.push_back("where (" + weight + ") > 0");
  for (Words *list : {&kept, &counted}) add(*list, masks);
  add(kept, scores);
  counted.push_back("score 0.0");
  if (made.weighted) {
    exact.push_back("weight " + weights[0]);
    kept.push_back("weight " + weights[0]);
  } else {
    add(kept, positive);
  }
  add(counted, positive);
  for (Words *list : {&kept, &counted}) add(*list, selects);
  made.exact = written(text, exact);
  made.kept = written(text, kept);
  made.counted = written(text, counted);
  made.score = joined(score, "");
  for (const std::string &definition : definitions)
    if (made.score.find(definition.substr(3, definition.find('(') - 2)) != std::string::npos)
      made.score += ", " + definition;
  const std::set<std::string> chosenBy(choosing.begin(), choosing.end()), scoredBy(score.begin(), score.end());
  for (const InputInfo &input : variant.inputs())
    if (chosenBy.count(input.name) > 0 && scoredBy.count(input.name) == 0) made.selecting.insert(input.name);
  return made;
}

}  // namespace weft
