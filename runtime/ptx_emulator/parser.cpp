#include <cstring>
#include <stdexcept>

#include "runtime/ptx_emulator/program.h"

namespace weft::ptx {
namespace {

[[noreturn]] void fail(int line, const std::string &message) {
  throw std::runtime_error("ptx line " + std::to_string(line) + ": " + message);
}

bool isName(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.'; }

/// Splits into statements: text up to ';', '{', '}' or a label's ':'; line numbers kept.
class Parser {
 public:
  explicit Parser(const std::string &text) : text(text) {}

  Program module() {
    Program program;
    for (skip(); at < text.size(); skip()) {
      if (text[at] != '.') fail(line, "expected a directive, got '" + lineText() + "'");
      const std::string word = name();
      if (word == ".target") {
        skip();
        program.target = name();
        toLineEnd();
      } else if (word == ".version" || word == ".address_size") {
        toLineEnd();
      } else if (word == ".extern" || word == ".global" || word == ".const") {
        const std::string all = upTo(';');
        if (all.find(".shared") == std::string::npos) fail(line, "expected only a shared variable of unknown size, got '" + all + "'");
        size_t end = all.find('[');
        size_t begin = all.find_last_of(" \t", end) + 1;
        sharedNames[all.substr(begin, end - begin)] = 0;
      } else if (word == ".visible" || word == ".entry") {
        if (word == ".visible") {
          skip();
          if (name() != ".entry") fail(line, "expected .entry");
        }
        Kernel kernel = entry();
        program.kernels[kernel.name] = std::move(kernel);
      } else {
        fail(line, "unknown directive " + word);
      }
    }
    return program;
  }

 private:
  const std::string &text;
  size_t at = 0;
  int line = 1;
  std::map<std::string, uint64_t> sharedNames, parameters;
  std::map<std::string, int> registers;
  std::map<std::string, std::pair<int, int>> banks;   ///< prefix: first register, count

  void skip() {
    while (at < text.size()) {
      if (text[at] == '\n') ++line;
      if (std::isspace(static_cast<unsigned char>(text[at]))) {
        ++at;
      } else if (text.compare(at, 2, "//") == 0) {
        while (at < text.size() && text[at] != '\n') ++at;
      } else {
        return;
      }
    }
  }
  void toLineEnd() {
    while (at < text.size() && text[at] != '\n') ++at;
  }
  std::string lineText() {
    const size_t end = text.find('\n', at);
    return text.substr(at, end == std::string::npos ? end : end - at);
  }
  std::string name() {
    const size_t begin = at;
    while (at < text.size() && isName(text[at])) ++at;
    return text.substr(begin, at - begin);
  }
  std::string upTo(char stop) {
    const size_t begin = at;
    while (at < text.size() && text[at] != stop) {
      if (text[at] == '\n') ++line;
      ++at;
    }
    if (at == text.size()) fail(line, std::string("expected '") + stop + "'");
    return text.substr(begin, at++ - begin);
  }
  void expect(char c) {
    skip();
    if (at >= text.size() || text[at] != c) fail(line, std::string("expected '") + c + "', got '" + lineText() + "'");
    ++at;
  }
  bool accept(char c) {
    skip();
    if (at >= text.size() || text[at] != c) return false;
    ++at;
    return true;
  }

  Kernel entry() {
    Kernel kernel;
    registers.clear();
    banks.clear();
    parameters.clear();
    skip();
    kernel.name = name();
    expect('(');
    while (!accept(')')) {
      const std::string declaration = parameter();
      const size_t bracket = declaration.find('[');
      const size_t nameEnd = bracket == std::string::npos ? declaration.size() : bracket;
      const size_t nameBegin = declaration.find_last_of(" \t", nameEnd) + 1;
      int64_t bytes = declaration.find("64") < nameBegin ? 8 : declaration.find("32") < nameBegin ? 4 : 1;
      kernel.parameterBytes = (kernel.parameterBytes + 7) / 8 * 8;
      parameters[declaration.substr(nameBegin, nameEnd - nameBegin)] = static_cast<uint64_t>(kernel.parameterBytes);
      if (bracket != std::string::npos) bytes *= std::stoll(declaration.substr(bracket + 1));
      kernel.parameterBytes += bytes;
    }
    for (skip(); at < text.size() && text[at] == '.'; skip()) {
      const std::string directive = name();
      if (directive == ".reqntid") kernel.threads = threads();
      else if (directive == ".maxntid") kernel.maxThreads = threads();
      else if (directive == ".maxnreg") kernel.maxRegisters = threads();
      else toLineEnd();
    }
    expect('{');
    body(kernel);
    return kernel;
  }
  /// "128" or "16, 8, 1": their product.
  int64_t threads() {
    int64_t all = 1;
    do {
      skip();
      const std::string own = name();
      uint64_t count = 0;
      if (own.empty() || !number(own, count) || count < 1 || count > 65536) fail(line, "expected a count, got '" + own + "'");
      all *= static_cast<int64_t>(count);
    } while (accept(','));
    return all;
  }
  std::string parameter() {
    skip();
    const size_t begin = at;
    while (at < text.size() && text[at] != ',' && text[at] != ')') ++at;
    const std::string result = text.substr(begin, at - begin);
    if (at < text.size() && text[at] == ',') ++at;
    const size_t last = result.find_last_not_of(" \t\n");
    return result.substr(0, last + 1);
  }

  struct Pending { size_t instruction, operand; std::string label; };

  void body(Kernel &kernel) {
    std::map<std::string, int> labels;
    std::vector<Pending> pending;
    for (skip();; skip()) {
      if (at >= text.size()) fail(line, "expected '}'");
      if (text[at] == '}') {
        ++at;
        break;
      }
      if (text[at] == '.') {
        const std::string directive = name();
        if (directive == ".reg") {
          declare(kernel);
        } else if (directive == ".loc" || directive == ".pragma") {
          toLineEnd();
        } else {
          fail(line, "unknown directive " + directive + " " + lineText());
        }
        continue;
      }
      const size_t begin = at;
      Instruction instruction;
      instruction.line = line;
      if (accept('@')) {
        instruction.guardNegated = accept('!');
        instruction.guard = registerOf(name());
        skip();
      }
      const std::string opcode = name();
      if (accept(':')) {
        labels[opcode] = static_cast<int>(kernel.code.size());
        continue;
      }
      try {
        decode(opcode, instruction);
      } catch (const std::exception &error) {
        fail(line, error.what());
      }
      if (!accept(';')) {
        do {
          operand(instruction, kernel, pending);
        } while (accept(','));
        expect(';');
      }
      instruction.text = text.substr(begin, at - begin);
      kernel.code.push_back(std::move(instruction));
    }
    for (const Pending &own : pending) {
      auto found = labels.find(own.label);
      if (found == labels.end()) fail(kernel.code[own.instruction].line, "unknown label or name " + own.label);
      Operand &operand = kernel.code[own.instruction].operands[own.operand][0];
      operand.kind = Operand::Kind::Label;
      operand.index = found->second;
    }
    kernel.registers = static_cast<int>(kernel.registerNames.size());
    findJoins(kernel);
  }

  void declare(Kernel &kernel) {
    skip();
    name();  // the type
    skip();
    const std::string prefix = name();
    int count = 1;
    bool many = false;
    if (accept('<')) {
      skip();
      count = std::stoi(name());
      expect('>');
      many = true;
    }
    expect(';');
    if (!many) {
      registers[prefix] = static_cast<int>(kernel.registerNames.size());
      kernel.registerNames.push_back(prefix);
      return;
    }
    for (int number = 0; number < count; ++number) {
      const std::string own = prefix + std::to_string(number);
      registers[own] = static_cast<int>(kernel.registerNames.size());
      kernel.registerNames.push_back(own);
    }
  }

  int registerOf(const std::string &own) {
    auto found = registers.find(own);
    if (found == registers.end()) fail(line, "unknown register " + own);
    return found->second;
  }

  static bool number(const std::string &own, uint64_t &value) {
    const char *begin = own.c_str();
    char *end = nullptr;
    if (own.rfind("0f", 0) == 0 || own.rfind("0F", 0) == 0)
      value = std::strtoull(begin + 2, &end, 16);
    else if (own.rfind("0d", 0) == 0 || own.rfind("0D", 0) == 0)
      value = std::strtoull(begin + 2, &end, 16);
    else if (own[0] == '-')
      value = static_cast<uint64_t>(std::strtoll(begin, &end, 0));
    else
      value = std::strtoull(begin, &end, 0);
    return end && *end == 0 && end != begin;
  }

  /// A register, number, label, variable or special register.
  Operand simple(const std::string &own, Instruction &instruction, const Kernel &kernel, std::vector<Pending> &pending) {
    Operand result;
    if (own.empty()) fail(line, "expected an operand, got '" + lineText() + "'");
    static const std::map<std::string, uint64_t> specials = {{"%tid.x", 0}, {"%ntid.x", 1}, {"%ctaid.x", 2}, {"%nctaid.x", 3}, {"%laneid", 4}};
    if (auto special = specials.find(own); special != specials.end()) {
      result.kind = Operand::Kind::Address;  // read by mov
      result.index = -2;
      result.value = special->second;
    } else if (own[0] == '%') {
      result.kind = Operand::Kind::Register;
      result.index = registerOf(own);
    } else if (sharedNames.count(own)) {
      result.value = sharedNames[own];
    } else if (parameters.count(own)) {
      result.value = parameters[own];
    } else if (std::isdigit(static_cast<unsigned char>(own[0])) || own[0] == '-') {
      if (!number(own, result.value)) fail(line, "malformed number " + own);
    } else {
      pending.push_back({kernel.code.size(), instruction.operands.size(), own});
    }
    return result;
  }
  std::string word() {
    skip();
    if (at < text.size() && text[at] == '-') {
      ++at;
      return "-" + name();
    }
    return name();
  }

  void operand(Instruction &instruction, const Kernel &kernel, std::vector<Pending> &pending) {
    std::vector<Operand> list;
    if (accept('{')) {
      do {
        list.push_back(simple(word(), instruction, kernel, pending));
      } while (accept(','));
      expect('}');
    } else if (accept('[')) {
      Operand base = simple(word(), instruction, kernel, pending);
      Operand address;
      address.kind = Operand::Kind::Address;
      address.index = base.kind == Operand::Kind::Register ? base.index : -1;
      address.value = base.kind == Operand::Kind::Register ? 0 : base.value;
      if (accept('+')) {
        uint64_t offset = 0;
        const std::string own = word();
        if (!number(own, offset)) fail(line, "malformed offset " + own);
        address.value += offset;
      }
      expect(']');
      list.push_back(address);
    } else {
      list.push_back(simple(word(), instruction, kernel, pending));
    }
    instruction.operands.push_back(std::move(list));
  }
};

}  // namespace

Program parse(const std::string &text) { return Parser(text).module(); }

}  // namespace weft::ptx
