import Access

/// Reads octets as a users file, and changes it as `stampede user` would.
final class UsersFuzzer {
    private let limits = PatternLimits(nameByteCountMax: 256, levelCountMax: 32)
    private let hash = try! PasswordHash("$rabbitmq$AQIDBDB9kM21iEUzN1lZ+6VReCsdNqS0sERdAQTcY6Xs3PMz")

    func check(_ octets: UnsafeRawBufferPointer) -> String? {
        guard let text = String(validating: octets, as: UTF8.self) else { return nil }
        do throws(AccessError) {
            return try checkChanges(UsersFileText(text, name: "users.yaml", limits))
        } catch {
            return check(error.problems)
        }
    }

    /// Each problem names the file and a line, and is one line itself.
    private func check(_ problems: [AccessProblem]) -> String? {
        if problems.isEmpty { return "an error without a problem" }
        for problem in problems {
            let place = problem.place.split(separator: ":")
            guard place.count == 2, place[0] == "users.yaml", let line = Int(place[1]), line >= 1 else {
                return "without a place: \(problem)"
            }
            if problem.text.isEmpty || problem.description.contains(where: \.isNewline) {
                return "not one line: \(problem.description.debugDescription)"
            }
        }
        return nil
    }

    /// A user that is added and removed leaves the others as they were.
    private func checkChanges(_ users: UsersFileText) -> String? {
        var changed = users
        let name = "new@user"
        guard users.file.roles(ofUser: name) == nil else { return nil }
        do throws(UsersFileText.Failure) {
            try changed.add(name, hash, roles: Array(users.file.roleNames.prefix(1)))
            if changed.file.userNames != (users.file.userNames + [name]).sorted() { return "a user is lost" }
            try changed.setHash(hash, of: name)
            try changed.remove(name)
        } catch {
            return error.reason.isEmpty ? "refused without a reason" : nil
        }
        for name in users.file.userNames where changed.file.roles(ofUser: name) != users.file.roles(ofUser: name) {
            return "another user's roles have changed"
        }
        return changed.file.userNames == users.file.userNames && changed.file.roleNames == users.file.roleNames
            ? nil : "users or roles are lost"
    }
}
